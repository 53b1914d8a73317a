"""Array bytes and words under way between programs and nodes."""
