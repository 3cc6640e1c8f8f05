"""What the deck and scripts use of the engine, one door a subject.

The doors are `fit`, `profiles`, `runs`, `overview`, `results`, `sweeps` and `cards`.

The deck imports a door when a screen first needs it. Only `profiles` loads pydantic; none loads torch.
"""
