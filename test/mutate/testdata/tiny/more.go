package tiny

// Even gives its error on in a file of its own.
func Even(n int) (int, error) {
	if n%2 != 0 {
		return 0, errNone
	}
	return n / 2, nil
}
