"""What is made of the sites' weights tensor by tensor: the walk over a reply, and deltas that conflict."""
