"""The workshop that makes the checkpoints the product loads."""
