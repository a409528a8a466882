package dial

// Open is the default of Config.Open.
var Open = open
