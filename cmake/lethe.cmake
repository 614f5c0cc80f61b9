# SPDX-License-Identifier: BSD-3-Clause
# Functions every folder's CMakeLists.txt uses.

add_library(lethe_flags INTERFACE)
target_include_directories(lethe_flags INTERFACE ${CMAKE_SOURCE_DIR})
target_compile_definitions(lethe_flags INTERFACE _GNU_SOURCE LETHE_VERSION="${PROJECT_VERSION}")
target_compile_options(lethe_flags INTERFACE -march=x86-64-v2 -Wall -Wextra -Wshadow -Wstrict-prototypes
  -Wmissing-prototypes -Wno-unused-parameter -fno-strict-aliasing)
if(LETHE_WERROR)
  target_compile_options(lethe_flags INTERFACE -Werror)
endif()
if(LETHE_ASAN)
  target_compile_options(lethe_flags INTERFACE -fsanitize=address,undefined -fno-sanitize-recover=all
    -fno-omit-frame-pointer)
  target_link_options(lethe_flags INTERFACE -fsanitize=address,undefined)
endif()
if(LETHE_TSAN)
  target_compile_options(lethe_flags INTERFACE -fsanitize=thread)
  target_link_options(lethe_flags INTERFACE -fsanitize=thread)
endif()

# lethe_sources(<var> <dir>...): the .c files of folders, without *_test.c and main.c
function(lethe_sources var)
  set(all)
  foreach(dir ${ARGN})
    file(GLOB here CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/${dir}/*.c)
    list(APPEND all ${here})
  endforeach()
  list(FILTER all EXCLUDE REGEX "(_test|/main)\\.c$")
  set(${var} ${all} PARENT_SCOPE)
endfunction()

# lethe_library(<name> DIRS <dir>... LINK <lib>...): a static library of folders
function(lethe_library name)
  cmake_parse_arguments(A "" "" "DIRS;LINK" ${ARGN})
  lethe_sources(src ${A_DIRS})
  if(NOT src)
    add_library(${name} INTERFACE)
    target_link_libraries(${name} INTERFACE lethe_flags ${A_LINK})
    return()
  endif()
  add_library(${name} STATIC ${src})
  target_link_libraries(${name} PUBLIC lethe_flags ${A_LINK})
  set_target_properties(${name} PROPERTIES POSITION_INDEPENDENT_CODE ON)
endfunction()

# lethe_unit_tests(DIRS <dir>... LINK <lib>...): every *_test.c is a program and a
# ctest of the same name, label "unit"; prints and exits as cmocka does.
function(lethe_unit_tests)
  cmake_parse_arguments(A "" "" "DIRS;LINK" ${ARGN})
  if(NOT CMOCKA_FOUND)
    message(STATUS "lethe: no cmocka (package libcmocka-dev): unit tests will NOT be built")
    return()
  endif()
  foreach(dir ${A_DIRS})
    file(GLOB tests CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/${dir}/*_test.c)
    foreach(test ${tests})
      get_filename_component(name ${test} NAME_WE)
      add_executable(${name} ${test})
      target_link_libraries(${name} PRIVATE lethe_flags ${A_LINK} PkgConfig::CMOCKA)
      add_test(NAME unit.${name} COMMAND ${name})
      set_tests_properties(unit.${name} PROPERTIES LABELS unit TIMEOUT 120)
    endforeach()
  endforeach()
endfunction()

# lethe_use_dpdk(<target> <driver>...): links DPDK statically with just these drivers
# (starts faster and is smaller than loading every driver there is).
function(lethe_use_dpdk target)
  set(libs)
  foreach(lib ${DPDK_STATIC_LIBRARIES})
    if(lib MATCHES "^rte_(net|crypto|common|baseband|compress|event|raw|regex|vdpa|dma|gpu|mempool|bus)_")
      continue() # a driver
    endif()
    list(APPEND libs ${lib})
  endforeach()
  set(drivers rte_bus_vdev rte_mempool_ring ${ARGN})
  set(whole)
  foreach(driver ${drivers})
    list(APPEND whole -l:lib${driver}.a)
  endforeach()
  target_include_directories(${target} SYSTEM PRIVATE ${DPDK_STATIC_INCLUDE_DIRS})
  target_compile_options(${target} PRIVATE -include rte_config.h -mssse3)
  target_link_libraries(${target} PRIVATE -Wl,--whole-archive ${whole} -Wl,--no-whole-archive
    -Wl,--start-group -l:librte_eal.a -l:librte_ethdev.a -l:librte_mbuf.a -l:librte_mempool.a
    -l:librte_ring.a -l:librte_kvargs.a -l:librte_telemetry.a -l:librte_net.a -l:librte_meter.a
    -l:librte_hash.a -l:librte_rcu.a -l:librte_pci.a -l:librte_bus_pci.a -Wl,--end-group
    numa dl m pthread)
endfunction()
