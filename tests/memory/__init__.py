"""Load against the budget of memory."""
