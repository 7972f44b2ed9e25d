"""From floats to integers: fold, scale, round, fine-tune."""
