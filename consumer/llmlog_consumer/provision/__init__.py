"""What `pipeline setup` installs, and what has to be there before anything is indexed."""
