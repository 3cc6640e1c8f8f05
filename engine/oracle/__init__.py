"""The memory oracle: the engine's own training step on the meta device, byte by byte, without a GPU.

Development and CI hold the closed form of `engine.memory` against it; `python -m engine.oracle` answers
for architectures that the closed form does not know. Imports torch: never imported by `engine.api` or
`engine.cli`, which run it in a subprocess.
"""
