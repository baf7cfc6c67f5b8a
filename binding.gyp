{
  "variables": {
    "isa_sources%": ["<!@(node tools/sources.mjs isa)"],
    "plain_sources%": ["<!@(node tools/sources.mjs plain)"],
    "sanitize%": "false"
  },
  "target_defaults": {
    "cflags!": ["-fno-exceptions", "-O2", "-g"],
    "cflags_cc!": ["-fno-exceptions", "-fno-rtti", "-std=gnu++17", "-std=gnu++20", "-O2", "-g"],
    "cflags_cc": ["-std=c++17", "-O3", "-fPIC", "-fvisibility=hidden", "-Wall", "-Wextra", "-Wno-unused-parameter"],
    "xcode_settings": {
      "GCC_ENABLE_CPP_EXCEPTIONS": "YES",
      "CLANG_CXX_LANGUAGE_STANDARD": "c++17",
      "GCC_OPTIMIZATION_LEVEL": "3"
    },
    "conditions": [
      ["sanitize=='true'", {
        "cflags_cc": ["-fsanitize=address,undefined", "-fno-sanitize-recover=undefined", "-g1", "-O1"],
        "ldflags": ["-fsanitize=address,undefined"]
      }]
    ]
  },
  "targets": [
    {
      "target_name": "voxgrad",
      "sources": ["<@(plain_sources)"],
      "include_dirs": ["<!@(node -p \"require('node-addon-api').include_dir\")"],
      "defines": ["NAPI_VERSION=9", "NODE_ADDON_API_CPP_EXCEPTIONS", "NODE_API_NO_EXTERNAL_BUFFERS_ALLOWED", "NODE_API_SWALLOW_UNTHROWABLE_EXCEPTIONS"],
      "dependencies": ["cpu_portable"],
      "conditions": [
        ["target_arch=='x64'", { "dependencies": ["cpu_avx2", "cpu_avx512"] }]
      ]
    },
    {
      "target_name": "cpu_portable",
      "type": "static_library",
      "sources": ["<@(isa_sources)"],
      "defines": ["VOXGRAD_ISA_NAME=portable"],
      "cflags_cc": ["-ffp-contract=fast"]
    }
  ],
  "conditions": [
    ["target_arch=='x64'", {
      "targets": [
        {
          "target_name": "cpu_avx2",
          "type": "static_library",
          "sources": ["<@(isa_sources)"],
          "defines": ["VOXGRAD_ISA_NAME=avx2"],
          "cflags_cc": ["-mavx2", "-mfma", "-ffp-contract=fast"],
          "xcode_settings": { "OTHER_CPLUSPLUSFLAGS": ["-mavx2", "-mfma"] }
        },
        {
          "target_name": "cpu_avx512",
          "type": "static_library",
          "sources": ["<@(isa_sources)"],
          "defines": ["VOXGRAD_ISA_NAME=avx512"],
          "cflags_cc": [
            "-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl", "-mfma",
            "-mprefer-vector-width=512", "-ffp-contract=fast"
          ],
          "xcode_settings": { "OTHER_CPLUSPLUSFLAGS": ["-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl", "-mfma"] }
        }
      ]
    }]
  ]
}
