"""The live page: are the pools healthy, who holds the connections now, what to change."""
