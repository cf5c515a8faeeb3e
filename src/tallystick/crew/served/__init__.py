"""What a serving process is made of: its wire, its routes, its batches, and a judge's pulls."""
