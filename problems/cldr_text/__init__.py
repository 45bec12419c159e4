"""Generates the text of translate_ende_cldr: sentences with dates, numbers and names from CLDR."""
