"""Parts of the clock: texts of dates, which number is the day, units of numbers, clocks that round."""
