"""Parts of `raydistill sweep`: what it would cost, several experiments, its last words, and spaces to edit."""
