// A child that cannot live.
process.stderr.write('the last words of a crashing child\n');
process.exit(3);
