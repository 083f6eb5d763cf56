"""What each code dimension stands for."""
