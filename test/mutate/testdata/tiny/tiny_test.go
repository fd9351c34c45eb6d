package tiny

import "testing"

func TestAdmit(t *testing.T) {
	for age, want := range map[int]bool{17: false, 18: true, 50: true, 100: false} {
		if (Admit(age) == nil) != want {
			t.Error(age)
		}
	}
}

func TestSum(t *testing.T) {
	if Sum(3) != 6 {
		t.Error(Sum(3))
	}
}

func TestFirst(t *testing.T) {
	if n, err := First([]int{7}); n != 7 || err != nil {
		t.Error(n, err)
	}
}

func TestEven(t *testing.T) {
	if n, err := Even(4); n != 2 || err != nil {
		t.Error(n, err)
	}
	if _, err := Even(5); err == nil {
		t.Error("5 is even")
	}
}
