"""Everything with pixels: figures, widgets, films."""
