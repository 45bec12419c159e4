"""English and German sentences around CLDR's expressions: the text of translate_ende_cldr."""
