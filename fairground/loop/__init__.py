"""What joins rooms into one deed."""
