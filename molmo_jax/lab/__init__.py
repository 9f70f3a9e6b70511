"""Commands about the model and for studies with it: sweep, walkthrough, benchmark."""
