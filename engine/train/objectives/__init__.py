"""What a run minimises beside plain likelihood."""
