package hub

// DecodeReport is what every report goes through.
var DecodeReport = decodeReport
