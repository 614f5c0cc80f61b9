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
  # It knows no fences, and says so: fences are for readers that are no threads of ours.
  target_compile_options(lethe_flags INTERFACE -fsanitize=thread $<$<C_COMPILER_ID:GNU>:-Wno-tsan>)
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

# What the sanitizer builds have to build, and no more.
add_custom_target(unit_tests)   # everything labelled "unit" or "sim"
add_custom_target(thread_tests) # everything labelled "threads"

# lethe_threaded(<test>...): unit tests that run threads, though one cannot tell from
# their source: label "threads".
function(lethe_threaded)
  foreach(name ${ARGN})
    if(TARGET ${name})
      add_dependencies(thread_tests ${name})
      set_tests_properties(unit.${name} PROPERTIES LABELS "unit;threads")
    endif()
  endforeach()
endfunction()

# lethe_unit_tests(DIRS <dir>... LINK <lib>...): every *_test.c is a program and a
# ctest of the same name, label "unit"; prints and exits as cmocka does. Those that
# run threads are labelled "threads", too: they also run under TSan.
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
      add_dependencies(unit_tests ${name})
      set_tests_properties(unit.${name} PROPERTIES LABELS unit TIMEOUT 600)
      file(STRINGS ${test} threaded LIMIT_COUNT 1 REGEX "pthread_create|embed_start|store_start|control_start")
      if(threaded)
        lethe_threaded(${name})
      endif()
    endforeach()
  endforeach()
endfunction()

# lethe_use_dpdk(<target> <driver>...): links DPDK statically with just these drivers
# (starts faster and is smaller than loading every driver there is), and adds
# common/packet/dpdk_*.c, which want lethe_support. rte_net_af_xdp is left out where libxdp is missing.
# --wrap: see "the gate" and "fanout" in common/packet/dpdk_port.c.
function(lethe_use_dpdk target)
  set(drivers ${ARGN})
  set(extra)
  if("rte_net_af_xdp" IN_LIST drivers)
    pkg_check_modules(XDP QUIET libxdp libbpf)
    if(XDP_FOUND)
      list(APPEND extra xdp bpf)
    else()
      message(STATUS "lethe: no libxdp (package libxdp-dev): ${target} will have no AF_XDP ports")
      list(REMOVE_ITEM drivers rte_net_af_xdp)
    endif()
  endif()
  set(whole)
  foreach(driver rte_bus_vdev rte_mempool_ring ${drivers})
    list(APPEND whole -l:lib${driver}.a)
  endforeach()
  set(core)
  foreach(lib eal ethdev mbuf mempool ring kvargs telemetry net gso ip_frag meter hash rcu pci)
    list(APPEND core -l:librte_${lib}.a)
  endforeach()
  target_sources(${target} PRIVATE ${CMAKE_SOURCE_DIR}/common/packet/dpdk_port.c
    ${CMAKE_SOURCE_DIR}/common/packet/dpdk_iface.c)
  target_include_directories(${target} SYSTEM PRIVATE ${DPDK_INCLUDE_DIRS})
  target_compile_options(${target} PRIVATE -include rte_config.h)
  target_link_options(${target} PRIVATE -Wl,--wrap=epoll_wait -Wl,--wrap=setsockopt)
  target_link_libraries(${target} PRIVATE lethe_support -Wl,--whole-archive ${whole} -Wl,--no-whole-archive
    -Wl,--start-group ${core} -Wl,--end-group ${extra} numa bsd dl m Threads::Threads)
endfunction()
