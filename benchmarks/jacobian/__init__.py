"""Times of whole Jacobian products beside every other way to form them in torch."""
