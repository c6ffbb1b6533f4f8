return is_string(KEYS[5]) and 1 or 0
