package tiny

import "errors"

var errNone = errors.New("none")

// Admit is watched by its tests, but for its upper limit.
func Admit(age int) error {
	if age < 18 || age > 99 {
		return errNone
	}
	return nil
}

// Sum never ends if its counter does not count.
func Sum(n int) (sum int) {
	i := 0
	for i < n {
		i++
		sum += i
	}
	return sum
}

// First gives its error on: the other package's test watches that.
func First(list []int) (int, error) {
	return pick(list, 0)
}

func pick(list []int, i int) (int, error) {
	switch {
	case i >= len(list):
		return 0, errNone
	default:
		return list[i], nil
	}
}

// Unwatched is reached by nothing.
func Unwatched(a, b bool) bool {
	f := func() bool {
		if a && b {
			return true
		}
		return false
	}
	return f()
}
