"""The built-in demonstration: a very small language model, a task it must learn, and how both were made."""
