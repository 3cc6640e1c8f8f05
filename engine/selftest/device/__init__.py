"""What the self-test does on the device, in child processes: the only part of it that imports torch."""
