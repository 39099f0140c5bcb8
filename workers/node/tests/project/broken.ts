// Fails when it is loaded.

throw new RangeError("broken on purpose");
