"""Refiners for the scores of any segmenter: fitted on score maps with labels, applied to more of them."""
