package tsm

// ReportIn reads an answer of the firmware.
var ReportIn = reportIn
