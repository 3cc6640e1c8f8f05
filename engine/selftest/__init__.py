"""`engine selftest`: does this tool compute right, predict right and run fast on this very machine?"""
