"""The skip's linear map: fitted in closed form, and compared with what a transformer adds to it."""
