// programs_<variant>                              lists the programs
// programs_<variant> NAME right|wrong ORDER SEED  runs one: exit status 0, or 1 and why
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <string>

#include "program.h"

namespace polarity::programs {

std::vector<const Program*>& all() {
  static std::vector<const Program*> programs;
  return programs;
}

Program::Program(const char* its_name, bool (*its_run)(bool)) : name(its_name), run(its_run) {
  all().push_back(this);
}

}  // namespace polarity::programs

int main(int count, char** arguments) {
  using namespace polarity;
  for (const programs::Program* program : programs::all()) {
    if (count < 5) {
      std::puts(program->name);
    } else if (program->name == std::string(arguments[1])) {
      emulator::schedule(static_cast<emulator::Order>(std::strtol(arguments[3], nullptr, 10)),
                         std::strtoull(arguments[4], nullptr, 10));
      try {
        if (program->run(arguments[2] == std::string("wrong"))) return 0;
        std::puts("wrong result");
      } catch (const std::exception& error) {
        std::puts(error.what());
      }
      return 1;
    }
  }
  return count < 5 ? 0 : 2;
}
