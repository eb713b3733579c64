"""What people look at: the table in the terminal and report.html."""
