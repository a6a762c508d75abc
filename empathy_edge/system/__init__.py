"""The operating system: files, processor, memory, disk, processes."""
