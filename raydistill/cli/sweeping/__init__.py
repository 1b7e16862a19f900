"""Parts of `raydistill sweep`: what it would cost, several experiments, and its last words."""
