"""What this machine has: files written safely, memory, disk, processor."""
