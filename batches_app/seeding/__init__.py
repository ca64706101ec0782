"""A believable installation, made up: for looking at the console and for measuring it. Nothing else imports it."""
