"""Not Python: what a half-finished edit looks like."""

def graph(:
