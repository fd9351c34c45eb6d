package main

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// days is a duration that can be written in days: "90d".
type days time.Duration

func (d *days) String() string {
	if t := time.Duration(*d); t%(24*time.Hour) == 0 {
		return strconv.Itoa(int(t/(24*time.Hour))) + "d"
	}
	return time.Duration(*d).String()
}

func (d *days) Set(s string) error {
	if n, ok := strings.CutSuffix(s, "d"); ok {
		v, err := strconv.ParseUint(n, 10, 16)
		*d = days(time.Duration(v) * 24 * time.Hour)
		return err
	}
	v, err := time.ParseDuration(s)
	if err == nil && v < 0 {
		err = fmt.Errorf("want a time ahead, as 90d or 24h")
	}
	*d = days(v)
	return err
}

func (d *days) Type() string { return "duration" }
