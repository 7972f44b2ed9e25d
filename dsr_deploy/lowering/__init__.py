"""From floats to integers: fold, scale, round and fine-tune."""
