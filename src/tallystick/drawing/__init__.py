"""How things look: figures and facts in words, graphs and charts as SVG. Pure functions of core's nouns."""
