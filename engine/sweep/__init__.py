"""Search over settings: trials are ordinary runs, the study is Optuna's, what a trial takes is known before."""
