"""What a review found at commit 07f76d6, attacked again on any checkout: the essence of each finding."""
