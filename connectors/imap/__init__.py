"""Documents that are mails."""
