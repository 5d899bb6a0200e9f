"""Calendar feeds: a secret address for each person who wants one, and what stands in it."""
