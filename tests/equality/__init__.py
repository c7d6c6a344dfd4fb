"""Proof that an accelerated application behaves as the same application does without acceleration."""
