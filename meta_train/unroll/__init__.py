"""What is unrolled: problems, what structure they declare, windows and whole episodes."""
