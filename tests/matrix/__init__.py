"""Clients that nobody here wrote, against everything people do with them: who they are, and what they were seen to send."""
