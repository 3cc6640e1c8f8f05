"""What the deck and scripts use of the engine, one door a subject: `fit`, `profiles`, `runs`, `results`, `sweeps`.

The deck imports a door when a screen first needs it. Only `profiles` loads pydantic; none loads torch.
"""
