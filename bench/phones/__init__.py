"""Speed and memory on phones: predicted from measurements, and the loop to a real one."""
