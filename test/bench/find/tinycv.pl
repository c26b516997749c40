# Looks for a part of a picture in another with tinycv, which os-autoinst does with each needle.
#
# Usage: tinycv.pl SCREEN.png NEEDLE.png X Y WIDTH HEIGHT
#
# The part is that rectangle of NEEDLE.png. For each line "MARGIN" on standard input it looks once, at most so many pixels
# from X, Y, and prints "MILLISECONDS SIMILARITY X Y".
use strict;
use warnings;
use Time::HiRes 'time';

# tinycv.pm would load all of os-autoinst.
package tinycv;
require DynaLoader;
our @ISA = ('DynaLoader');
our $VERSION = '1.0';
tinycv->bootstrap($VERSION);

package main;
my ($screen_file, $needle_file, @area) = @ARGV;
my $screen = tinycv::read($screen_file) or die "cannot read $screen_file\n";
my $needle = tinycv::read($needle_file) or die "cannot read $needle_file\n";
$| = 1;
while (my $margin = <STDIN>) {
  my $started = time;
  my ($similarity, $x, $y) = $screen->search_needle($needle, @area, int $margin);
  printf "%.3f %.4f %d %d\n", (time - $started) * 1000, $similarity, $x, $y;
}
